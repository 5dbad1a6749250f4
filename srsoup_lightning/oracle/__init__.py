"""Asking black-box rewards: checked, retried, remembered and counted."""
