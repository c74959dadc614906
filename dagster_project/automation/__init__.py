"""What runs automatically: requests for builds, the sensor that runs them, stale marks, the webhook."""
