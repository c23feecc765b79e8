"""How good results are: of a network in true boxes, of a checkpoint on a reserve, of a whole store."""
