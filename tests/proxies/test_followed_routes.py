"""What a driver hears of nodes between epochs."""

from __future__ import annotations

from foreshard.model import NodeState
from foreshard.proxies.haproxy_driver import FollowedRoutes


def test_a_correction_alone_says_nothing_of_where_a_node_is() -> None:
    routes = FollowedRoutes()
    routes.observe("a", url="http://a", state=NodeState.DEAD, correction=1.2)
    routes.observe("a", correction=1.1)
    assert routes.nodes == {"a": ("http://a", NodeState.DEAD)}
    assert routes.corrections == {"a": 1.1}


def test_weights_are_looked_at_again_when_a_correction_moved_by_a_hundredth() -> None:
    routes = FollowedRoutes()
    for factor, is_news in ((1.2, True), (1.2004, False), (1.19, True)):
        routes.changed.clear()
        routes.observe("a", correction=factor)
        assert routes.changed.is_set() is is_news
