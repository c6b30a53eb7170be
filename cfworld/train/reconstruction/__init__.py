"""What a tokenizer is judged by: errors of frames, and a critic."""
