"""Write a model of ours in another format: CTranslate2, ONNX or Marian."""

from .options import new_parser

DESCRIPTION = """Write a model in another format, with its tokenizer, as a folder of its own.

formats:
  ctranslate2   for ctranslate2.Translator; translate_options.json holds arguments for translate_batch that decode as
                the model's generation config does
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
    if options.quantization and options.kind != "ctranslate2":
        parser.error("--quantization is for ctranslate2")

    from transformers.utils.logging import disable_progress_bar

    from ..conversion.ctranslate2_export import require_quantization, to_ctranslate2
    from ..manifest_vanilla_transformer import require_empty_folder
    from ..translation import load_model_and_tokenizer

    disable_progress_bar()
    require_quantization(options.quantization or "float32")
    require_empty_folder(options.output)
    model, tokenizer = load_model_and_tokenizer(options.model)
    if options.kind == "ctranslate2":
        folder = to_ctranslate2(model, tokenizer, options.output, options.quantization or "float32")
    elif options.kind == "onnx":
        from ..conversion.onnx_export import to_onnx

        folder = to_onnx(model, tokenizer, options.output)
    else:
        from ..conversion.folders import save_converted
        from ..conversion.marian import to_marian

        folder = save_converted(to_marian(model), tokenizer, options.output, {"exported_to": {"format": "marian"}})
    print(f"The model is in {folder}, for {options.kind}.")
    return 0
