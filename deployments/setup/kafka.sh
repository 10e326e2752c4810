#!/usr/bin/env bash
# Apache Kafka, for machines without Docker, in .freshet/kafka: the jars that deployments/local/pom.xml names, from
# wherever the user's own Maven is set to look, each held to its sum in deployments/local/kafka.sums.
#
#   kafka.sh        fetch them; needs Java 17 or newer and Maven
#   kafka.sh pin    after a change of pom.xml: fetch, and write kafka.sums anew

# shellcheck source=lib.sh source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

local=$FRESHET_ROOT/deployments/local
pom=$local/pom.xml
sums=$local/kafka.sums
folder=$FRESHET_HOME/kafka

java_major() { java -version 2>&1 | sed -n 's/.* version "\([0-9]*\).*/\1/p'; }

need_java_and_maven() {
  local missing=()
  have java || missing+=(default-jre-headless)
  have mvn || missing+=(maven)
  [ "${#missing[@]}" = 0 ] || debian "${missing[@]}"
  [ "$(java_major)" -ge 17 ] || die "Kafka needs Java 17 or newer, found $(java_major); install one with  sudo apt-get install default-jre-headless"
}

# jars FOLDER: copy what pom.xml names into FOLDER. Maven's own plugins go to the scratch folder and vanish with it.
jars() {
  say "fetching Apache Kafka $(sed -n 's:.*<kafka.version>\(.*\)</kafka.version>.*:\1:p' "$pom") from its Maven artifacts (50 MB, and 40 MB of Maven's own)"
  mvn -q -B -f "$pom" -Dmaven.repo.local="$SCRATCH/m2" -DincludeScope=runtime -DoutputDirectory="$1" \
    dependency:copy-dependencies </dev/null >"$SCRATCH/mvn.log" 2>&1 || {
    tail -n 20 "$SCRATCH/mvn.log" >&2
    die "Maven could not fetch Kafka"
  }
}

# share: run the broker once and keep what the JVM loaded (class data sharing). Later starts take 3 s, not 7.
# Only a convenience: where this JVM cannot do it, the broker starts without.
share() {
  say "starting Kafka once, so that later starts are quick"
  if FRESHET_LOCAL_NAME=setup-kafka FRESHET_LOCAL_KAFKA_SHARE=$SCRATCH/kafka.jsa "$local/up" kafka >"$SCRATCH/share.log" 2>&1; then
    FRESHET_LOCAL_NAME=setup-kafka "$local/down" >>"$SCRATCH/share.log" 2>&1 || true
  fi
  FRESHET_LOCAL_NAME=setup-kafka "$local/down" --wipe >>"$SCRATCH/share.log" 2>&1 || true
  [ ! -f "$SCRATCH/kafka.jsa" ] || mv -f "$SCRATCH/kafka.jsa" "$folder/kafka.jsa"
}

if [ "${1:-}" = pin ]; then
  scratch
  need_java_and_maven
  jars "$SCRATCH/libs"
  (cd "$SCRATCH/libs" && sha256sum ./*.jar | sed 's: \./: :') >"$sums"
  say "wrote $sums"
  exit 0
fi

key=$(key "$pom" "$sums")
done_already() { stamped kafka "$key" && [ -d "$folder/libs" ] && have java; }

if done_already; then exit 0; fi
alone kafka
if done_already; then exit 0; fi
need_java_and_maven
scratch
jars "$SCRATCH/libs"
(cd "$SCRATCH/libs" && sha256sum --check --strict --quiet "$sums" >&2) ||
  die "Kafka's jars do not have the pinned sums; nothing was installed"
[ "$(find "$SCRATCH/libs" -name '*.jar' | wc -l)" = "$(wc -l <"$sums")" ] ||
  die "Maven fetched jars that $sums does not name; nothing was installed"
mkdir -p "$folder"
rm -rf "$folder/libs" "$folder/kafka.jsa"
mv "$SCRATCH/libs" "$folder/libs"
# The broker can run from here on, so the run below may use the ordinary way to start it.
stamp kafka "$key"
share
