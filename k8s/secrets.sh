#!/bin/sh
# Prints the Secret that every manifest refers to, with fresh random values: sh k8s/secrets.sh | kubectl apply -f -
# Run it once: running it again changes every password. For stores of your own, edit the two URLs in the output.
set -eu
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
postgres=$(random)
valkey=$(random)
commands='+hello +auth +ping +client|setinfo +client|setname +select +multi +exec +discard +watch +unwatch
    +lpush +rpush +rpop +brpop +llen +sadd +srem +smembers +hset +hget +hdel +hlen +zadd +zrem +zrange
    +zrevrangebyscore +set +get +del +pexpire +script|load +evalsha'
cat <<YAML
apiVersion: v1
kind: Secret
metadata:
  name: craft-secrets
  namespace: craft
type: Opaque
stringData:
  postgres-password: $postgres
  database-url: postgresql://craft:$postgres@postgres:5432/craft
  broker-url: redis://craft:$valkey@valkey:6379/0
  worker-token: $(random)
  service-token: $(random)
  metrics-token: $(random)
  model-server-token: $(random)
  gateway-operator-key: $(random)
  webhooks-key: $(random)
  users.acl: |
    user default off
    user craft on >$valkey ~craft:* resetchannels -@all $(echo $commands)
YAML
