"""RetrievalService: keeps documents, finds them, and answers from them."""
