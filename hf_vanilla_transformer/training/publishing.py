"""How a run reaches the Hub: by `hub.push`, so that the same few files are published and the same card is written.

Mixed into a `Seq2SeqTrainer`, in place of its uploads of whole folders, which hold its pickled arguments and a card of
its own. While training goes on, a checkpoint is copied first and uploaded beside it.
"""

import logging
import shutil
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import torch
from huggingface_hub import HfApi
from transformers.trainer_utils import HubStrategy
from transformers.utils import PushInProgress

from ..hub import CardDetails, Publication, Push, prepare
from ..hub.answers import explained

logger = logging.getLogger(__name__)


def require_publishable_strategy(args: Any) -> None:
    """Refuse to publish what is nobody's business.

    Raises:
        ValueError: whole checkpoints were to be pushed, optimizer states among them.
    """
    if args.push_to_hub and args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        raise ValueError(
            f"Models are pushed and the state of training is not, but hub_strategy {args.hub_strategy.value} would "
            "push it. Give every_save or end, and keep the run's folder to resume from."
        )


class Publishing:
    """Overrides how a `Seq2SeqTrainer` pushes."""

    args: Any
    state: Any
    control: Any
    callback_handler: Any
    hub_model_id: Any
    push_in_progress: Any = None

    def push_to_hub(
        self,
        commit_message: str | None = "End of training",
        blocking: bool = True,
        token: str | None = None,
        revision: str | None = None,
        private: bool | None = None,
        **details: Any,
    ) -> Any:
        """Save the model, and publish it with a card, as `hub.push_to_hub` does.

        Args:
            commit_message, token, revision, private: as of the Trainer.
            blocking: whether to wait until it is there.
            details: what the card says and no file knows, as of `hub.CardDetails`.

        Returns:
            What was published (`hub.Push`), a future of it, or `None` on all processes but the main one.
        """
        CardDetails(**details)  # before the work
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        if self.hub_model_id is None:
            self.init_hf_repo(token=token, private=private)
        self.save_model(_internal_call=True)  # type: ignore[attr-defined]
        if not self.is_world_process_zero():  # type: ignore[attr-defined]
            return None
        if self.push_in_progress is not None:
            self.push_in_progress.wait_until_done()
        publication = self._copy(Path(self.args.output_dir), **details)
        upload = self._upload(publication, commit_message, token, revision)
        return upload() if blocking else HfApi().run_as_future(upload)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """The Trainer's would name scores without their signatures: the card is written by a push."""
        logger.info("The card is written when the model is pushed; `vanilla-transformer push --dry_run` shows it.")

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Not from the staging folder: `publish_in_background` follows when the checkpoint is whole."""

    def publish_in_background(self, checkpoint: Path) -> None:
        """Publish a checkpoint's model while training goes on; a failure is told and ends nothing."""
        wanted = self.args.push_to_hub and self.args.hub_strategy != HubStrategy.END
        busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if not wanted or not self.is_world_process_zero() or (busy and not self.args.hub_always_push):  # type: ignore[attr-defined]
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        try:
            publication = self._copy(checkpoint)
        except (OSError, ValueError) as error:
            logger.warning(f"{checkpoint.name} is not pushed: {error} Training goes on.")
            return
        message = f"Training in progress, step {self.state.global_step}"
        upload = self._upload(publication, message, None, None)

        def upload_or_tell() -> None:
            try:
                upload()
            except Exception as error:  # whatever it is, the run is worth more
                logger.warning(f"{checkpoint.name} is not pushed: {error} Training goes on.")

        self.push_in_progress = PushInProgress([HfApi().run_as_future(upload_or_tell)])  # type: ignore[arg-type]

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """As of the Trainer, which makes the repository before it trains; what the Hub refuses is one sentence."""
        with explained(self.args.hub_model_id or Path(self.args.output_dir).name):
            super().init_hf_repo(*args, **kwargs)  # type: ignore[misc]

    def _copy(self, folder: Path, **details: Any) -> Publication:
        """What is published of a folder, in a folder of its own, since checkpoints are deleted."""
        staged = Path(mkdtemp(prefix="push-"))
        try:
            with torch.random.fork_rng(devices=[]):  # loading must not change the numbers of the run
                return prepare(folder, staged, CardDetails(**details))
        except BaseException:
            shutil.rmtree(staged, ignore_errors=True)
            raise

    def _upload(self, publication: Publication, message: str | None, token: str | None, revision: str | None) -> Any:
        """A function that uploads once and cleans up."""
        repo_id = self.hub_model_id

        def upload() -> Push:
            try:
                pushed = publication.publish(
                    repo_id,
                    revision=revision or self.args.hub_revision,
                    card="keep",  # nobody is there to be asked
                    commit_message=message,
                    token=token or self.args.hub_token,
                )
            except Exception as error:
                run = self.args.output_dir
                error.how_to_go_on = (  # type: ignore[attr-defined]
                    f"The model is in {run}: vanilla-transformer push --model {run} --repo_id {repo_id}"
                )
                raise
            finally:
                shutil.rmtree(publication.staged, ignore_errors=True)
            logger.info(f"Pushed to {pushed.url} (commit {pushed.commit[:12]}).")
            return pushed

        return upload


__all__ = ["Publishing", "require_publishable_strategy"]
