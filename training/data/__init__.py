"""Training crops."""
