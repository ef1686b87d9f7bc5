"""What the detector learns from an event: the other half of judging it."""

from msgspec.structs import replace

from detector.familiar import with_seen
from detector.features import Features, with_features
from detector.networks import asn_key, place_key, tunnel_key
from detector.observations import Observation
from detector.profile import Anchor, FamilyTrace, Unlearned, UserProfile, anchor_key
from domain.evidence import Network
from domain.ids import UserId

_PREFIXES = 16
_ASNS = 12
_COUNTRIES = 12
_PLACES = 12
_DEVICES = 10
_COOKIES = 10
_ANCHORS = 6
_UNLEARNED = 6
_UNLEARNED_OF_A_FAMILY = 2
_FAMILY_PREFIXES = 8
_FAMILY_ASNS = 8
_MOVES = 8
_LATE_RETRIES = 8
_TUNNELS = 4
_ANCHOR_STALE_S = 3000.0
_STEADY_S = 1.0
_QUICK_S = 60.0
_IPV6 = 6


# ------------------------------------------------------------------------------------ the user


def learn_sign_in(
    profile: UserProfile, seen: Observation, features: Features | None
) -> UserProfile:
    """The profile after a sign-in that nothing speaks against.

    Args:
        profile: Before.
        seen: The sign-in.
        features: Its features for the risk score; None where the crowd has not counted it.
    """
    profile = replace(
        _familiar_with(profile, seen),
        first_seen=profile.first_seen or seen.second,
        last_seen=max(profile.last_seen, seen.second),
        sign_ins=profile.sign_ins + 1,
    )
    if features is None:
        return profile
    return replace(profile, features=with_features(profile.features, features))


def learn_whereabouts(profile: UserProfile, seen: Observation) -> UserProfile:
    """The profile after a refresh that nothing speaks against; the same one, mostly."""
    latest = profile.prefixes[0] if profile.prefixes else None
    if (
        latest is not None
        and latest.key == seen.network.prefix
        and seen.second - latest.last < _ANCHOR_STALE_S
        and profile.devices
        and profile.devices[0].key == seen.device.signature
    ):
        return profile
    return replace(_familiar_with(profile, seen), last_seen=max(profile.last_seen, seen.second))


def set_aside(
    profile: UserProfile, seen: Observation, features: Features | None = None
) -> UserProfile:
    """The profile after an alerted event: nothing is learned from it until somebody vouches.

    Args:
        profile: Before.
        seen: The event.
        features: Its features for the risk score, where it is a sign-in.
    """
    kept = Unlearned(
        str(seen.family_id),
        seen.second,
        seen.network.prefix,
        asn_key(seen.network),
        seen.network.country,
        place_key(seen.network),
        seen.device.signature,
        seen.client.device_key,
        features,
    )
    return replace(
        profile,
        first_seen=profile.first_seen or seen.second,
        last_seen=max(profile.last_seen, seen.second),
        unlearned=(kept, *_making_room(profile.unlearned, kept)[: _UNLEARNED - 1]),
    )


def _making_room(unlearned: tuple[Unlearned, ...], new: Unlearned) -> tuple[Unlearned, ...]:
    """What stays beside something new: no family may crowd out what others showed."""
    others, of_family = [], 1
    for each in unlearned:
        if each.family_id == new.family_id:
            of_family += 1
            if of_family > _UNLEARNED_OF_A_FAMILY or _shows_the_same(each, new):
                continue
        others.append(each)
    return tuple(others)


def _shows_the_same(one: Unlearned, later: Unlearned) -> bool:
    return (one.prefix, one.device, one.cookie) == (later.prefix, later.device, later.cookie) and (
        one.features is None or later.features is not None
    )


def vouched_for(profile: UserProfile, family_id: str, second: float) -> UserProfile:
    """The profile once somebody said that a family's alerted events were the user's own."""
    for kept in profile.unlearned:
        if kept.family_id == family_id:
            profile = replace(
                profile,
                sign_ins=profile.sign_ins + 1,
                prefixes=with_seen(profile.prefixes, kept.prefix, second, _PREFIXES),
                asns=with_seen(profile.asns, kept.asn, second, _ASNS),
                countries=with_seen(profile.countries, kept.country, second, _COUNTRIES),
                places=with_seen(profile.places, kept.place, second, _PLACES),
                devices=with_seen(profile.devices, kept.device, second, _DEVICES),
                cookies=with_seen(profile.cookies, kept.cookie, second, _COOKIES),
            )
            if kept.features is not None:
                features = with_features(profile.features, kept.features)
                profile = replace(profile, features=features)
    return without_family(profile, family_id)


def without_family(profile: UserProfile, family_id: str) -> UserProfile:
    """The profile without what was set aside of a family."""
    kept = tuple(each for each in profile.unlearned if each.family_id != family_id)
    return profile if len(kept) == len(profile.unlearned) else replace(profile, unlearned=kept)


def _familiar_with(profile: UserProfile, seen: Observation) -> UserProfile:
    now, network = seen.second, seen.network
    return replace(
        profile,
        prefixes=with_seen(profile.prefixes, network.prefix, now, _PREFIXES),
        asns=with_seen(profile.asns, asn_key(network), now, _ASNS),
        countries=with_seen(profile.countries, network.country, now, _COUNTRIES),
        places=with_seen(profile.places, place_key(network), now, _PLACES),
        devices=with_seen(profile.devices, seen.device.signature, now, _DEVICES),
        cookies=with_seen(profile.cookies, seen.client.device_key, now, _COOKIES),
        anchors=_anchored(profile, seen),
        tunnels=with_seen(profile.tunnels, tunnel_key(network), now, _TUNNELS),
    )


def _anchored(profile: UserProfile, seen: Observation) -> tuple[tuple[str, Anchor], ...]:
    if seen.network.is_elsewhere_by_design or seen.network.prefix is None:
        return profile.anchors  # never a travel anchor (detection.md)
    key = anchor_key(seen.device.signature, seen.network.version)
    rest = tuple(each for each in profile.anchors if each[0] != key)
    return ((key, _anchor(seen.network, seen.second)), *rest[: _ANCHORS - 1])


# ---------------------------------------------------------------------------------- the family


def begin_trace(user_id: UserId, seen: Observation) -> FamilyTrace:
    """What is known of a family at its first sighting."""
    trace = FamilyTrace(
        user_id=user_id,
        started=seen.second,
        last=seen.second,
        device=seen.device.signature,
        browser_version=seen.device.browser_version,
        cookie=seen.client.device_key,
        hinted=seen.device.hinted,
        model=seen.device.model,
        event_id=seen.event_id,
        contradicts=seen.device.contradiction is not None,
    )
    return _placed(trace, seen)


def follow(trace: FamilyTrace, seen: Observation) -> FamilyTrace:
    """The trace after another sighting of its client, whatever was found about it."""
    device, cookie = seen.device, seen.client.device_key
    versions = [v for v in (trace.browser_version, device.browser_version) if v is not None]
    trace = replace(
        trace,
        last=max(trace.last, seen.second),
        device=device.signature,
        browser_version=max(versions, default=None),
        cookie=cookie or trace.cookie,
        hinted=trace.hinted and device.hinted,
        model=device.model or trace.model,
        event_id=seen.event_id,
        keeps_cookie=trace.keeps_cookie and (cookie is not None or trace.cookie is None),
        contradicts=trace.contradicts or device.contradiction is not None,
    )
    return _placed(trace, seen)


def with_interval(trace: FamilyTrace, second: float) -> FamilyTrace:
    """The trace with the time since it was last seen counted as an interval between refreshes."""
    interval = max(0.0, second - trace.last)
    refreshes = trace.refreshes + 1
    off = interval - trace.mean_s
    mean_s = trace.mean_s + off / refreshes
    is_steady = trace.refreshes > 0 and abs(interval - trace.interval_s) <= _STEADY_S
    return replace(
        trace,
        refreshes=refreshes,
        mean_s=mean_s,
        spread=trace.spread + off * (interval - mean_s),
        quickest_s=min(trace.quickest_s, interval) if trace.refreshes else interval,
        interval_s=interval,
        steady=trace.steady + 1 if is_steady else 0,
        steady_since=trace.steady_since if is_steady else second,
        quick=trace.quick + 1 if interval < _QUICK_S else 0,
    )


def with_late_retry(trace: FamilyTrace, seen: Observation) -> FamilyTrace:
    """The trace with one more retry after the overlap window."""
    return replace(
        trace,
        late_retries=(seen.second, *trace.late_retries[: _LATE_RETRIES - 1]),
        late_generations=(seen.generation, *trace.late_generations[: _LATE_RETRIES - 1]),
    )


def doubted(trace: FamilyTrace) -> FamilyTrace:
    """The trace of a family that something speaks against: what it shows is not learned."""
    return trace if trace.doubted else replace(trace, doubted=True)


def cleared(trace: FamilyTrace, second: float) -> FamilyTrace:
    """The trace once somebody said that its client is the user, wherever it was so far."""
    return replace(trace, doubted=False, vouched_at=second, moves=())


def _placed(trace: FamilyTrace, seen: Observation) -> FamilyTrace:
    network, now = seen.network, seen.second
    if network.prefix is None:
        return trace
    before = trace.anchor(network.version)
    here = asn_key(network) or network.prefix
    moves = trace.moves
    if before is None or _whereabouts(before) != here:
        moves = ((now, here), *moves[: _MOVES - 1])
    anchor = _anchor(network, now)
    is_six = network.version == _IPV6
    return replace(
        trace,
        anchor4=trace.anchor4 if is_six else anchor,
        anchor6=anchor if is_six else trace.anchor6,
        prefixes=with_seen(trace.prefixes, network.prefix, now, _FAMILY_PREFIXES),
        asns=with_seen(trace.asns, asn_key(network), now, _FAMILY_ASNS),
        moves=moves,
    )


def _whereabouts(anchor: Anchor) -> str | None:
    return anchor.prefix if anchor.asn is None else f"as{anchor.asn}"


def _anchor(network: Network, second: float) -> Anchor:
    nowhere = network.is_elsewhere_by_design
    return Anchor(
        second,
        network.prefix,
        network.asn,
        None if nowhere else network.country,
        None if nowhere else network.city,
        None if nowhere else network.latitude,
        None if nowhere else network.longitude,
        network.radius_km,
    )
