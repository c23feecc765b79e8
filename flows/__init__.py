"""What is run, and when: settings, the command line, the Prefect flows and their schedules."""
