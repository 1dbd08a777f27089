# What is typed in a clean root, by bash; what is expected is said by `set -e`. /tmp is shared with who reads it afterwards.
set -e
export DEBIAN_FRONTEND=noninteractive PATH=/usr/sbin:/usr/bin:/sbin:/bin

list() {
    find / -xdev \( -path /proc -o -path /sys -o -path /tmp -o -path /var/lib/dpkg \) -prune -o -print | LC_ALL=C sort
    cat /etc/passwd /etc/group
}

# What the unit says of something.
unit() {
    sed -n "s/^$1=//p" /usr/lib/systemd/system/lockwatch.service
}

# One set of capabilities, as setpriv wants it.
caps() {
    echo "-all$(for cap in $(unit "$1"); do cap=${cap#CAP_}; printf ',+%s' "${cap,,}"; done)"
}

agent=
trap '[ -z "$agent" ] || kill -KILL "$agent"' EXIT

# The agent as systemd starts it: with the sockets of its unit, which are made by a program of systemd's, and with the user
# and the capabilities of the other. It starts when it is asked for the first time.
start() {
    mapfile -t sockets < <(sed -n 's/^ListenStream=/--listen=/p' /usr/lib/systemd/system/lockwatch.socket)
    rm -f /run/lockwatch/agent.sock
    systemd-socket-activate "${sockets[@]}" setpriv --reuid="$(unit User)" --regid="$(unit User)" --init-groups \
        --inh-caps="$(caps AmbientCapabilities)" --ambient-caps="$(caps AmbientCapabilities)" \
        --bounding-set="$(caps CapabilityBoundingSet)" --no-new-privs $(unit ExecStart) &
    agent=$!
    for ((n = 0; n < 100; n++)); do
        [ ! -S /run/lockwatch/agent.sock ] || break
        sleep 0.1
    done
    for ((n = 0; n < 100; n++)); do
        exec 9<>/dev/tcp/127.0.0.1/9954
        printf 'GET /readyz HTTP/1.0\r\nHost: localhost\r\n\r\n' >&9
        read -r -t 10 answer <&9
        exec 9>&-
        [[ $answer != *\ 200\ * ]] || break
        sleep 0.1
    done
    [[ $answer == *\ 200\ * ]]
    # That it answers, and not the command itself: whoever looks without the agent says so.
    ( exec 9>/var/lock/visit; flock 9; lockwatch list --json /var/lock/visit >/tmp/answer 2>/tmp/complaints )
    [ ! -s /tmp/complaints ]
    grep -q '"history"' /tmp/answer
    grep -q "^Uid:.$(id -u lockwatch)" "/proc/$agent/status"
    rm /var/lock/visit
}

stop() {
    kill -TERM "$agent"
    wait "$agent"
    agent=
    rm /run/lockwatch/agent.sock
}

list >/tmp/before
dpkg -i /tmp/old.deb
getent passwd lockwatch
getent group lockwatch
test "$(stat -c %a /var/log/lockwatch)" = 700
test -L /etc/systemd/system/sysinit.target.wants/lockwatch.service
test -L /etc/systemd/system/sockets.target.wants/lockwatch-control.socket
lockwatch --version
lockwatch config check
systemd-analyze verify --man=no /usr/lib/systemd/system/lockwatch*
systemd-analyze security --offline=true --threshold=20 lockwatch.service >/dev/null
start
stop
echo '[control]
approvals = 1' >>/etc/lockwatch/config.toml
systemctl disable lockwatch-control.socket
echo '{}' >/var/log/lockwatch/audit.jsonl
dpkg -i /tmp/new.deb
grep -q '^approvals = 1' /etc/lockwatch/config.toml
test ! -e /etc/systemd/system/sockets.target.wants/lockwatch-control.socket
test -L /etc/systemd/system/sysinit.target.wants/lockwatch.service
lockwatch config check
start
stop
dpkg --remove lockwatch
test -e /etc/lockwatch/config.toml
dpkg --purge lockwatch
list >/tmp/after
