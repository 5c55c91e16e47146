"""A user of reports, by a library that speaks NTLM: one session, three requests; then one with a
password that is wrong. Prints a status and the body for each.

usage: ntlm_client.py URL ROOT_PEM USER PASSWORD
"""
import socket
import sys

import requests
from requests_ntlm import HttpNtlmAuth

url, root, user, password = sys.argv[1:]

# The site system's name leads to this machine.
look_up = socket.getaddrinfo
socket.getaddrinfo = lambda host, *more, **named: look_up(
    "127.0.0.1" if str(host).endswith(".contoso.com") else host, *more, **named
)

session = requests.Session()
session.auth = HttpNtlmAuth(user, password)
for _ in range(3):
    answer = session.get(url, verify=root, timeout=30)
    print(answer.status_code, answer.text.strip())
wrong = requests.get(url, verify=root, timeout=30, auth=HttpNtlmAuth(user, password + "x"))
print(wrong.status_code)
