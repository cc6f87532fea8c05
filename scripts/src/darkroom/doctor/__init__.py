"""``darkroom doctor``: it says why no picture comes.

``chain.CHAIN`` is the way of a prompt, link by link; each link is a function of one of the modules beside it, which
gets a ``Context`` and answers with a ``Finding``. Nothing in this package changes anything, and no secret is told.
"""
