"""What happens to one video or one camera-day: the stages between an archive and its events."""
