"""The OSE search: the space, W and the front, the strategies, and the study loop that any number of workers share."""
