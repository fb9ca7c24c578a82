"""Pushing a run to the Hub with `hub.push`, so that it publishes the same files and card as the `push` command.

Mixed into a `Seq2SeqTrainer`, it replaces uploads of the whole folder with pickled arguments and the Trainer's own
card. During training, a checkpoint is copied first and then uploaded in the background.
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
    """Refuse to publish the training state.

    Raises:
        ValueError: the strategy would push whole checkpoints with optimizer states.
    """
    if args.push_to_hub and args.hub_strategy in (HubStrategy.CHECKPOINT, HubStrategy.ALL_CHECKPOINTS):
        raise ValueError(
            f"Models are pushed and the training state is not, but hub_strategy {args.hub_strategy.value} would "
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
        """Save the model and publish it with a card, as `hub.push_to_hub` does.

        Args:
            commit_message, token, revision, private: as in the Trainer.
            blocking: whether to wait until the upload is complete.
            details: facts for the card that no file holds, see `hub.CardDetails`.

        Returns:
            The result (`hub.Push`), or a future of it if not `blocking`; `None` on all processes but the main one.
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
        """Write no card here: the Trainer's has scores without signatures, and `push_to_hub` writes our own."""
        logger.info("The card is written when the model is pushed; `vanilla-transformer push --dry_run` shows it.")

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        """Do nothing: `publish_in_background` pushes the checkpoint once it is complete."""

    def publish_in_background(self, checkpoint: Path) -> None:
        """Publish a checkpoint's model in the background; a failure is only a warning."""
        wanted = self.args.push_to_hub and self.args.hub_strategy != HubStrategy.END
        busy = self.push_in_progress is not None and not self.push_in_progress.is_done()
        if not wanted or not self.is_world_process_zero() or (busy and not self.args.hub_always_push):  # type: ignore[attr-defined]
            return
        self.callback_handler.on_push_begin(self.args, self.state, self.control)
        try:
            publication = self._copy(checkpoint)
        except (OSError, ValueError) as error:
            logger.warning(f"{checkpoint.name} was not pushed: {error} Training continues.")
            return
        message = f"Training in progress, step {self.state.global_step}"
        upload = self._upload(publication, message, None, None)

        def upload_or_tell() -> None:
            try:
                upload()
            except Exception as error:  # no failed upload may end a run
                logger.warning(f"{checkpoint.name} was not pushed: {error} Training continues.")

        self.push_in_progress = PushInProgress([HfApi().run_as_future(upload_or_tell)])  # type: ignore[arg-type]

    def init_hf_repo(self, *args: Any, **kwargs: Any) -> None:
        """As in the Trainer, which creates the repository before training; a Hub error becomes one sentence."""
        with explained(self.args.hub_model_id or Path(self.args.output_dir).name):
            super().init_hf_repo(*args, **kwargs)  # type: ignore[misc]

    def _copy(self, folder: Path, **details: Any) -> Publication:
        """A copy of the files to publish, since the checkpoint may be deleted meanwhile."""
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
                    card="keep",  # there is no user to ask
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
