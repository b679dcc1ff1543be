"""Where bodies lie: sparse volumes and the distance of two of them."""
