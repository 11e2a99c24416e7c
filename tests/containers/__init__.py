"""One machine in every container gives one vmcore, from the file to the mount, with no option."""
