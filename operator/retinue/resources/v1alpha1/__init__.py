"""The kinds of `retinue.dev/v1alpha1`."""
