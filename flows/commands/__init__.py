"""The commands of ``aviaflow``: what each reads from the command line and prints."""
