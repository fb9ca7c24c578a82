"""Exact conversion from and to other formats; `README.md` in this folder lists what each format keeps."""
