"""Training by the paper's recipe (section 5) on `Seq2SeqTrainer` and Accelerate."""
