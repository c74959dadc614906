"""The asset graph: which cells a study has, what each is made from, and which settings decide it. No torch."""
