"""The recipe of penstock-starter: data, tokenizer, training and exam, from nothing."""
