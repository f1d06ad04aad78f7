#!/bin/sh
# Says who knocked. Arguments: ip user_id user_name action_id action_name encrypted payload_base64
printf 'hello %s (user %s) from %s: action %s (%s)\n' "$3" "$2" "$1" "$5" "$4"
if [ -n "$7" ]; then
    printf 'payload: '
    printf %s "$7" | base64 -d
    printf '\n'
fi
