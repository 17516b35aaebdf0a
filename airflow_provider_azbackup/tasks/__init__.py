"""What operators and sensors have in common."""
