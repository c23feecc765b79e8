"""A night's run over an archive: what is to do, the Prefect flow that does it, and what it says at the end."""
