"""UsageService over gRPC: translates, and says who may see what."""
# ruff: noqa: N802 - methods bear the names of their RPCs

from dataclasses import replace
from typing import Any

from penstock.access.v1 import usage_service_pb2 as pb
from penstock.access.v1.usage_service_pb2_grpc import UsageServiceServicer

from services.errors import PermissionDenied
from services.model import usage_convert as convert
from services.model.usage import UsageLedger
from services.model.usage_records import Filter
from services.rpc.access import Role, principal, requires

Context = Any
"""A `grpc.aio.ServicerContext`; its type parameters say nothing here."""


class UsageServicer(UsageServiceServicer):
    """Serves `penstock.access.v1.UsageService`."""

    def __init__(self, ledger: UsageLedger) -> None:
        self._ledger = ledger

    @requires(Role.USER)
    async def ListUsage(
        self, request: pb.ListUsageRequest, context: Context
    ) -> pb.ListUsageResponse:
        """Lists records, newest first."""
        page = await self._ledger.page(
            _visible(convert.to_filter(request.filter)),
            page_size=request.page_size,
            page_token=request.page_token,
        )
        return pb.ListUsageResponse(
            records=map(convert.from_usage, page.items), next_page_token=page.next_page_token
        )

    @requires(Role.USER)
    async def SumUsage(self, request: pb.SumUsageRequest, context: Context) -> pb.SumUsageResponse:
        """Sums records."""
        totals = await self._ledger.total(
            _visible(convert.to_filter(request.filter)), convert.to_groups(request.group_by)
        )
        return pb.SumUsageResponse(totals=map(convert.from_total, totals))

    @requires(Role.SERVICE)
    async def RecordUsage(
        self, request: pb.RecordUsageRequest, context: Context
    ) -> pb.RecordUsageResponse:
        """Keeps records."""
        await self._ledger.record(convert.to_usage(request.records))
        return pb.RecordUsageResponse()


def _visible(wanted: Filter) -> Filter:
    """Narrows a filter to what the caller may see."""
    who = principal()
    if who.holds_any((Role.ADMIN, Role.SERVICE)):
        return wanted
    if wanted.principal not in ("", who.id):
        raise PermissionDenied(
            "'filter.principal': only admins see what others used. Leave it out to see your own.",
            field="filter.principal",
        )
    return replace(wanted, principal=who.id)
