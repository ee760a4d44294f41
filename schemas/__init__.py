"""What flows through a job, and what a plug-in promises. Imports nothing of ours."""
