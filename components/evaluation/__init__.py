"""How good a model is: metrics, the verdict, and the rows that a server is asked for."""
