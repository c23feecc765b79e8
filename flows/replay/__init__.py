"""Each stage of a finished run again, alone, on what the run had: what it says now against what the store holds."""
