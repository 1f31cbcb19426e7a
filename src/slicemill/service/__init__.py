"""A model over HTTP: the only room with starlette, uvicorn and prometheus_client."""
