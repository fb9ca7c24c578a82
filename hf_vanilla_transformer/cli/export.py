"""Write a model of ours in another format: CTranslate2, ONNX or Marian."""

import os

from .options import new_parser

DESCRIPTION = """Write a model in another format, with its tokenizer, as a folder of its own.

formats:
  ctranslate2   for ctranslate2.Translator; translate_options.json holds the model's generation config as arguments for
                translate_batch. Settings that this has no argument for (forced tokens, max_extra_tokens ...) are left
                out, and a warning names each: there translations may differ
  onnx          encoder.onnx and decoder.onnx; onnx_runner.py, beside them, decodes greedily with onnxruntime
  marian        for MarianMTModel of transformers

What the other format has no form for is refused by name."""


def main(argv: list[str] | None = None) -> int:
    """Parse, load, export, say where the folder is."""
    parser = new_parser("export", DESCRIPTION)
    parser.add_argument("--to", required=True, choices=("ctranslate2", "onnx", "marian"), dest="kind", help="format")
    parser.add_argument("--model", required=True, metavar="DIR_OR_ID", help="model folder, or its name on the Hub")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder to make; must not hold anything")
    parser.add_argument(
        "--quantization",
        metavar="TYPE",
        help="how CTranslate2 stores weights: float32 (default), int8, float16 ... (ctranslate2 only)",
    )
    options = parser.parse_args(argv)
    if not options.model:
        parser.error("--model must not be empty")
    if options.quantization is not None and options.kind != "ctranslate2":
        parser.error("--quantization is for ctranslate2")
    quantization = "float32" if options.quantization is None else options.quantization
    output = os.path.expanduser(options.output)

    from transformers.utils.logging import disable_progress_bar

    from ..conversion.ctranslate2_export import require_quantization, to_ctranslate2
    from ..model.whole_folders import require_empty_folder
    from ..translation import load_model_and_tokenizer

    disable_progress_bar()
    require_quantization(quantization)
    require_empty_folder(output)
    model, tokenizer = load_model_and_tokenizer(options.model)
    if options.kind == "ctranslate2":
        folder = to_ctranslate2(model, tokenizer, output, quantization)
    elif options.kind == "onnx":
        from ..conversion.onnx_export import to_onnx

        folder = to_onnx(model, tokenizer, output)
    else:
        from ..conversion.folders import save_converted
        from ..conversion.marian import to_marian

        folder = save_converted(to_marian(model), tokenizer, output, {"exported_to": {"format": "marian"}})
    print(f"The model is in {folder}, for {options.kind}.")
    return 0
