"""Data sets of songs, and the chunks that training draws from them."""
