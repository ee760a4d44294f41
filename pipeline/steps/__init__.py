"""What the steps of a job become: operators that any worker can build from plain arguments."""
