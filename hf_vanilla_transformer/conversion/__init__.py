"""Other formats to and from ours, exactly: `README.md` in this folder says what each keeps and calls what."""
