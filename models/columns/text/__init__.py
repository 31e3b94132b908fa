"""Text: from the characters of a cell to the numbers of tokens, and from those to a vector."""
