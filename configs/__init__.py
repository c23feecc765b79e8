"""The YAML files that ship with Aviaflow."""
