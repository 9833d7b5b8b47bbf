"""The route by which a supervisor asks for the state of the server: `GET /healthz`."""

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from services.web.server_health import ServerHealth

_FIELDS = ("stage", "store", "database", "model", "version")


def health_route(health: ServerHealth) -> Route:
    """Return the route. It responds with the state of each part, and with status 200 if all parts are ready, else 503."""

    async def answer(_: Request) -> JSONResponse:
        body = {name: getattr(health, name) for name in _FIELDS}
        return JSONResponse(body, 200 if health.is_ready else 503)

    return Route("/healthz", answer)
