"""The console: pages for the security team (`/console`) and for everybody (`/account`).

Rendered here, on the server. A module a page or concern, with its template beside it. Pages ask the
services of ``api.ports``, as the JSON routes do, and never our own HTTP. Imported by ``api.app``
alone.
"""
