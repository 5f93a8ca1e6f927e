"""The doors of the main node for browsers, scripts and people: HTTP on Klein.

- `service`: puts it together; `make_site` is all that the main needs.
- `connections`: sockets to requests: deadlines, caps, problem documents for what is not even HTTP.
- `guard`: who may ask what from where: hosts, origins, tokens.
- `routes`: the one table of addresses; it feeds Klein, the OpenAPI document and the tests.
- `openapi`: the document that describes the table.
- `routing`: a route, and how the table becomes a Klein application; `calls`: what a handler is given.
- `answers`: what a handler gives back: documents, and problems by RFC 9457.
- `api_cluster`, `api_devices`, `api_tasks`: handlers of /api/v1.
- `api_files`, `downloads`: files taken in piece by piece, and sent whole or in ranges.
- `text_views`, `tabular`, `exposition`: /text, its formats, and the Prometheus metrics.
- `sse`, `hub`, `stream_views`: /stream, server-sent events.
- `pages`: the dashboard, the page without script, and the files they load, which are in `static`.

Imports point to `main`, `store`, `wire` and `domain`; nothing there imports from here but the main's service.
"""
