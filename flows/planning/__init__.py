"""How long a run of an archive would take, from the record of one that was measured."""
