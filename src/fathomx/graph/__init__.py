"""Networks: entries that predict activities, and what can be read off their graph."""
