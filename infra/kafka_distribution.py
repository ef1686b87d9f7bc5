"""The programs of an Apache Kafka broker: resolved once through Maven, kept in a cache folder.

Apache Kafka publishes its server to Maven's central repository like any library, so a machine with
Java and Maven needs neither a container engine nor a download of its own.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

VERSION: Final = "4.3.1"
_DEPENDENCY_PLUGIN: Final = "3.11.0"
_SLF4J: Final = "1.7.36"  # the API that this Kafka asks for; its simple backend writes to stderr
_PATIENCE_S: Final = 480

_POM: Final = f"""<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>sessiontrail.local</groupId>
  <artifactId>kafka</artifactId>
  <version>1</version>
  <packaging>pom</packaging>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>{VERSION}</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>{_SLF4J}</version>
    </dependency>
  </dependencies>
</project>
"""


class NoKafkaError(Exception):
    """There is no Kafka broker to start here; the message says how to get one."""


def java() -> str:
    """The Java that runs the broker.

    Raises:
        NoKafkaError: There is none.
    """
    home = os.environ.get("JAVA_HOME")
    found = shutil.which("java", path=str(Path(home, "bin"))) if home else None
    if found is None:
        found = shutil.which("java")
    if found is None:
        msg = f"a Kafka broker needs Java 17 or newer; {_WAYS}"
        raise NoKafkaError(msg)
    return found


def jars() -> Path:
    """The folder of the broker's jars; resolves them where they are not there yet.

    Raises:
        NoKafkaError: They are not there, and Maven is not either or cannot get them.
    """
    digest = hashlib.sha256(_POM.encode()).hexdigest()[:12]
    folder = _cache() / f"kafka-{VERSION}-{digest}"
    if folder.is_dir():
        return folder
    maven = shutil.which("mvn")
    if maven is None:
        msg = f"Kafka's jars are fetched with Maven (mvn), which is not here; {_WAYS}"
        raise NoKafkaError(msg)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{folder.name}.lock").open("ab") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)  # test processes that start together fetch once
        if not folder.is_dir():
            _resolve(maven, folder)
    return folder


_WAYS: Final = (
    "install a JRE (17 or newer) and Maven, for instance with"
    " `apt install default-jre-headless maven`, or set KAFKA_BOOTSTRAP_SERVERS to a broker of yours"
)


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "sessiontrail"


def _resolve(maven: str, folder: Path) -> None:
    """Fetch into a folder beside it, and rename: it is there whole, or not at all."""
    with tempfile.TemporaryDirectory(prefix=f"{folder.name}-", dir=folder.parent) as scratch:
        pom, fetched = Path(scratch, "pom.xml"), Path(scratch, "jars")
        pom.write_text(_POM, encoding="utf-8")
        goal = f"org.apache.maven.plugins:maven-dependency-plugin:{_DEPENDENCY_PLUGIN}"
        command = [
            *(maven, "--batch-mode", "--quiet", "--file", str(pom), f"{goal}:copy-dependencies"),
            *("-DincludeScope=runtime", f"-DoutputDirectory={fetched}"),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            msg = f"Maven did not fetch Kafka {VERSION}: {error}"
            raise NoKafkaError(msg) from error
        if done.returncode != 0 or not any(fetched.glob("kafka_*.jar")):
            said = " ".join((done.stdout + done.stderr).split())[-400:]
            msg = f"Maven could not fetch Kafka {VERSION}: {said}"
            raise NoKafkaError(msg)
        fetched.rename(folder)
