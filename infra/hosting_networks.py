"""Autonomous systems of large data centres and satellite carriers, and how others call themselves.

For where no anonymous-IP database is at hand. Public facts, kept short: it holds what many sign-ins
from rented machines come from, not everything that could be rented.
"""

import re

HOSTING_ASNS = frozenset(
    {
        8075,  # Microsoft Azure
        8100,  # QuadraNet
        8560,  # IONOS
        9009,  # M247
        12876,  # Scaleway
        13335,  # Cloudflare, WARP too
        14061,  # DigitalOcean
        14618,  # Amazon Web Services
        15169,  # Google
        16276,  # OVH
        16509,  # Amazon Web Services
        19318,  # Interserver
        20473,  # Vultr
        20940,  # Akamai
        22612,  # Namecheap
        24940,  # Hetzner
        26347,  # DreamHost
        26496,  # GoDaddy
        28753,  # Leaseweb, Germany
        29802,  # HIVELOCITY
        30633,  # Leaseweb, USA
        31034,  # Aruba
        31898,  # Oracle Cloud
        33070,  # Rackspace
        36183,  # Akamai, for iCloud Private Relay
        36351,  # IBM Cloud
        36352,  # ColoCrossing
        37963,  # Alibaba Cloud, China
        40509,  # Fly.io
        40676,  # Psychz
        45090,  # Tencent Cloud, China
        45102,  # Alibaba Cloud
        47583,  # Hostinger
        49505,  # Selectel
        49981,  # WorldStream
        51167,  # Contabo
        53667,  # FranTech, BuyVM
        54113,  # Fastly
        54290,  # Hostwinds
        60068,  # Datacamp, CDN77
        60781,  # Leaseweb, Netherlands
        62240,  # Clouvider
        63949,  # Linode, Akamai
        132203,  # Tencent Cloud
        136907,  # Huawei Cloud
        197540,  # netcup
        199524,  # G-Core
        202053,  # UpCloud
        212238,  # Datacamp
        213230,  # Hetzner
        396982,  # Google Cloud
    }
)
"""Networks of machines for rent, and of relays that people go out through."""

SATELLITE_ASNS = frozenset(
    {
        800,  # OneWeb
        6621,  # Hughes
        7155,  # Viasat
        14593,  # Starlink
        22351,  # Intelsat
        29286,  # Skylogic, Eutelsat
        31515,  # Inmarsat
        39356,  # Avanti
        60725,  # O3b
        64294,  # Panasonic Avionics
    }
)
"""Carriers whose addresses are where a ground station is, not where the person is."""

# St. Cloud is a town, and its providers serve homes.
_HOSTING_NAME = re.compile(
    r"hosting|\bvpns?\b|\bvps\b|data\s?-?cent(?:er|re)|(?<!\bst )(?<!\bst\. )(?<!saint )cloud",
    re.IGNORECASE,
)
_SATELLITE_NAME = re.compile(r"\bsatellite|\bstarlink|\bvsat\b|\binmarsat\b", re.IGNORECASE)


def is_hosting(asn: int | None, organisation: str | None) -> bool:
    """Whether a network is known for machines for rent, or says so in its name.

    >>> is_hosting(24940, None), is_hosting(None, "Example Cloud GmbH"), is_hosting(2119, "Telenor")
    (True, True, False)
    """
    return asn in HOSTING_ASNS or (
        organisation is not None and _HOSTING_NAME.search(organisation) is not None
    )


def is_satellite(asn: int | None, organisation: str | None) -> bool:
    """Whether a network is a satellite carrier's.

    >>> is_satellite(14593, "SpaceX"), is_satellite(None, "Example Satellite Ltd")
    (True, True)
    """
    return asn in SATELLITE_ASNS or (
        organisation is not None and _SATELLITE_NAME.search(organisation) is not None
    )
