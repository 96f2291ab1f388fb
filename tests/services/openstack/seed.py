"""Fills a bootstrapped Keystone; prints the ids that tests need as lines of KEY=VALUE.

Domain Default: fork (member of project migrate), ro (reader on it), fork2 (member of project other),
admin (also on the domain Default and the system). Domain Acme: acme (member of project vault).
Every password but admin's is forkpw. The catalog's regions differ in how the image service is reached.
"""

import os

import requests

URLS = {name: os.environ[name] for name in (
    "KEYSTONE_URL", "KEYSTONE_TLS_URL", "KEYSTONE_SHORT_URL", "GLANCE_URL", "GLANCE_TLS_URL",
    "GLANCE_SLOW_URL", "GLANCE_UNCACHED_URL", "CINDER_URL")}
KEYSTONE = URLS["KEYSTONE_URL"]
INTERFACES = ("public", "internal", "admin")
NOBODY_LISTENS = "http://127.0.0.1:9"
session = requests.Session()


def login(user, password, project):
    response = session.post(KEYSTONE + "/auth/tokens", json={"auth": {
        "identity": {"methods": ["password"], "password": {
            "user": {"name": user, "domain": {"id": "default"}, "password": password}}},
        "scope": {"project": {"name": project, "domain": {"id": "default"}}}}})
    response.raise_for_status()
    return response.headers["X-Subject-Token"], response.json()["token"]["user"]["id"]


def call(method, path, body=None, token=None):
    response = session.request(
        method, KEYSTONE + path, json=body, headers={"X-Auth-Token": token or admin_token})
    assert response.ok, (path, response.status_code, response.text)
    answer = response.json() if response.content else {}
    return next((value for key, value in answer.items() if key != "links"), None)


def endpoints(service, region, urls):
    for interface, url in zip(INTERFACES, urls if isinstance(urls, tuple) else (urls,) * 3):
        call("POST", "/endpoints", {"endpoint": {
            "service_id": service, "region_id": region, "interface": interface, "url": url}})


def project(name, domain="default"):
    return call("POST", "/projects", {"project": {"name": name, "domain_id": domain}})["id"]


def user(name, password, on_project, *granted, domain="default"):
    user_id = call("POST", "/users", {"user": {
        "name": name, "password": password, "domain_id": domain, "default_project_id": on_project}})["id"]
    for role in granted:
        call("PUT", f"/projects/{on_project}/users/{user_id}/roles/{roles[role]}")
    return user_id


admin_token, admin = login("admin", "adminpw", "admin")
roles = {role["name"]: role["id"] for role in call("GET", "/roles")}
call("PUT", f"/domains/default/users/{admin}/roles/{roles['admin']}")

identity = call("GET", "/services?type=identity")[0]["id"]
image = call("POST", "/services", {"service": {"type": "image", "name": "glance"}})["id"]
for region in ("RegionTLS", "RegionSlow", "RegionMixed", "RegionEmpty"):
    call("POST", "/regions", {"region": {"id": region}})
    endpoints(identity, region, URLS["KEYSTONE_TLS_URL" if region == "RegionTLS" else "KEYSTONE_URL"])
endpoints(image, "RegionOne", URLS["GLANCE_URL"])
endpoints(image, "RegionTLS", URLS["GLANCE_TLS_URL"])
endpoints(image, "RegionSlow", URLS["GLANCE_SLOW_URL"])
# Each interface in the form of some cloud; the admin one leads nowhere.
endpoints(image, "RegionMixed", (URLS["GLANCE_URL"] + "/", URLS["GLANCE_TLS_URL"] + "/v2", NOBODY_LISTENS))

# The service has had several types; a cloud lists one or more of them.
for kind, region in (("block-storage", "RegionOne"), ("volumev3", "RegionMixed")):
    volume = call("POST", "/services", {"service": {"type": kind, "name": "cinder"}})["id"]
    endpoints(volume, region, URLS["CINDER_URL"] + "/v3/%(project_id)s")

service, migrate, other = project("service"), project("migrate"), project("other")
user("glance", "glancepw", service, "admin", "service")
user("cinder", "cinderpw", service, "admin", "service")
fork = user("fork", "forkpw", migrate, "member")
user("fork2", "forkpw", other, "member")
user("ro", "forkpw", migrate, "reader")
acme_domain = call("POST", "/domains", {"domain": {"name": "Acme"}})["id"]
vault = project("vault", acme_domain)
acme = user("acme", "forkpw", vault, "member", domain=acme_domain)

fork_token, _ = login("fork", "forkpw", "migrate")
credential = call("POST", f"/users/{fork}/application_credentials", {"application_credential": {
    "name": "download", "secret": "appsecret", "unrestricted": False, "roles": [{"name": "member"}]}},
    token=fork_token)

for name, value in {
    **URLS,
    "PROJECT_MIGRATE": migrate, "PROJECT_OTHER": other, "USER_FORK": fork,
    "DOMAIN_ACME": acme_domain, "USER_ACME": acme, "PROJECT_VAULT": vault,
    "APP_CREDENTIAL_ID": credential["id"], "APP_CREDENTIAL_NAME": "download",
    "APP_CREDENTIAL_SECRET": "appsecret",
}.items():
    print(f"{name}={value}")
