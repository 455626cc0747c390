"""A file of vectors that is written block by block, and resumed where a run was interrupted."""
