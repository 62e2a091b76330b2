"""Training of the embedded model: task generators, document formats, tokenizer, trainer, export and evaluation."""
