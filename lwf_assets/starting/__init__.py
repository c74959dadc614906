"""A first study for somebody's own data: what the rows look like, what is proposed, and how it is written."""
