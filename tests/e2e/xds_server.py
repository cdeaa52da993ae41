"""A control plane of the least size: tells gRPC's clients where services are.

It runs in an environment of its own (`xds` in clients.txt): the protos of xDS come with packages
that clash with others. It prints its port. Each line of its input is JSON, the addresses of every
service, and is told to all that listen.
"""

from __future__ import annotations

import json
import queue
import sys
import threading
from collections.abc import Iterator
from concurrent import futures
from typing import Any

import grpc
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import api_listener_pb2, listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.router.v3 import router_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import (
    http_connection_manager_pb2 as http_pb2,
)
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from google.protobuf import any_pb2, json_format


def parsed(kind: Any, fields: dict[str, Any]) -> Any:
    return json_format.ParseDict(fields, kind())


def packed(message: Any) -> any_pb2.Any:
    found = any_pb2.Any()
    found.Pack(message)
    return found


def listener(name: str, _: list[str]) -> Any:
    manager = http_pb2.HttpConnectionManager(
        route_config=parsed(
            route_pb2.RouteConfiguration,
            {
                "name": name,
                "virtual_hosts": [
                    {
                        "name": name,
                        "domains": ["*"],
                        "routes": [{"match": {"prefix": ""}, "route": {"cluster": name}}],
                    }
                ],
            },
        ),
        http_filters=[http_pb2.HttpFilter(name="router", typed_config=packed(router_pb2.Router()))],
    )
    return listener_pb2.Listener(
        name=name, api_listener=api_listener_pb2.ApiListener(api_listener=packed(manager))
    )


def cluster(name: str, _: list[str]) -> Any:
    return parsed(
        cluster_pb2.Cluster,
        {"name": name, "type": "EDS", "eds_cluster_config": {"eds_config": {"ads": {}}}},
    )


def assignment(name: str, addresses: list[str]) -> Any:
    def endpoint(address: str) -> dict[str, Any]:
        host, _, port = address.rpartition(":")
        where = {"socket_address": {"address": host, "port_value": int(port)}}
        return {"endpoint": {"address": where}}

    place = {
        "locality": {"region": "here"},
        "load_balancing_weight": 1,
        "lb_endpoints": [endpoint(address) for address in addresses],
    }
    return parsed(endpoint_pb2.ClusterLoadAssignment, {"cluster_name": name, "endpoints": [place]})


MAKERS = {
    "type.googleapis.com/" + kind.DESCRIPTOR.full_name: make
    for kind, make in (
        (listener_pb2.Listener, listener),
        (cluster_pb2.Cluster, cluster),
        (endpoint_pb2.ClusterLoadAssignment, assignment),
    )
}


class Control(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    """Answers what is asked for, and tells changes."""

    def __init__(self) -> None:
        self.addresses: dict[str, list[str]] = {}
        self._version = 0
        self._listening: list[queue.Queue[str | None]] = []

    def tell(self, addresses: dict[str, list[str]]) -> None:
        self.addresses = addresses
        self._version += 1
        for one in self._listening:
            one.put("")

    def StreamAggregatedResources(  # noqa: N802
        self, requests: Iterator[Any], context: Any
    ) -> Iterator[Any]:
        wanted: dict[str, list[str]] = {}
        said: dict[str, tuple[int, tuple[str, ...]]] = {}
        changes: queue.Queue[str | None] = queue.Queue()
        self._listening.append(changes)

        def listen() -> None:
            for request in requests:
                wanted[request.type_url] = list(request.resource_names)
                changes.put(request.type_url)
            changes.put(None)

        threading.Thread(target=listen, daemon=True).start()
        while changes.get() is not None:
            for kind, names in list(wanted.items()):
                state = (self._version, tuple(names))
                if said.get(kind) == state:  # an acknowledgement
                    continue
                said[kind] = state
                known = [name for name in names if name in self.addresses]
                yield discovery_pb2.DiscoveryResponse(
                    version_info=str(self._version),
                    nonce=str(self._version),
                    type_url=kind,
                    resources=[packed(MAKERS[kind](name, self.addresses[name])) for name in known],
                )


def main() -> None:
    control = Control()
    control.tell(json.loads(sys.stdin.readline()))
    server = grpc.server(futures.ThreadPoolExecutor(8))
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(control, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    for line in sys.stdin:
        control.tell(json.loads(line))
    server.stop(None).wait()


if __name__ == "__main__":
    main()
