"""The picture of a session family, as an analyst is shown it."""

import re

import httpx

from domain.events.users import Role
from domain.ids import FamilyId, UserId
from tests.alerts import raised
from tests.e2e.accounts import add_user
from tests.e2e.alerts import raise_alert
from tests.e2e.clients import Device
from tests.e2e.service import RunningService
from tests.e2e.visiting import Visitors

_ENTRY = re.compile(r'<li><svg class="timeline"[^>]*>(.*?)</svg>(.*?)</li>', re.DOTALL)


def test_what_the_legend_tells_apart_is_drawn_differently(
    shared_service: RunningService, http: httpx.Client, visitor: Visitors
) -> None:
    account, owner = add_user(shared_service), Device(shared_service.url, http)
    owner.login(account.username, account.password)
    stolen = owner.refresh_token
    owner.refresh()
    owner.refresh()
    thief = Device(shared_service.url, http, user_agent="curl/8.14.1")
    assert thief.present(stolen).status_code == httpx.codes.UNAUTHORIZED  # reuse: all is over
    assert owner.refresh().status_code == httpx.codes.UNAUTHORIZED
    user_id, family_id = UserId(account.user_id), FamilyId(owner.session["family_id"])
    alert = raise_alert(shared_service, raised(user_id=user_id, family_id=family_id))

    page = visitor(Role.ANALYST).get(f"/console/alerts/{alert.alert_id}").text

    drawn = {words: mark.strip() for mark, words in _ENTRY.findall(page)}
    assert {"signed in", "refreshed", "replaced token used again", "refused"} <= set(drawn)
    assert len(set(drawn.values())) == len(drawn)
