"""`hpcnas serve`: a page to look at runs while they go on. What runs say as JSON, and the page's own files.

Reads runs as analyses do, changes nothing in them, and knows no browser: `page/` does. Arguments and the server are
`command.serve`'s. No torch, no matplotlib.
"""
