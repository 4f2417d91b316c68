# From the flattened network_data.json ("path<TAB>value"), prints what the card "mac" gets:
#   address ADDRESS MASK | mtu BYTES | route NETWORK MASK GATEWAY | dns ADDRESS
# Fails if no network of type ipv4 is on its link.

# Only digits and dots may reach a command line.
function clean(text) { gsub(/[^0-9.]/, "", text); return text }

{ value[$1] = $2 }

END {
    for (i = 0; ("links/" i "/id") in value; i++)
        if (tolower(value["links/" i "/ethernet_mac_address"]) == tolower(mac)) {
            link = value["links/" i "/id"]
            mtu = clean(value["links/" i "/mtu"])
        }
    if (link == "") exit 1
    for (i = 0; ("networks/" i "/id") in value; i++) {
        base = "networks/" i "/"
        if (value[base "link"] != link || value[base "type"] !~ /^ipv4/ || value[base "ip_address"] == "") continue
        found = 1
        print "address", clean(value[base "ip_address"]), clean(value[base "netmask"])
        for (j = 0; (base "routes/" j "/gateway") in value; j++)
            print "route", clean(value[base "routes/" j "/network"]), clean(value[base "routes/" j "/netmask"]),
                clean(value[base "routes/" j "/gateway"])
    }
    if (!found) exit 1
    if (mtu != "") print "mtu", mtu
    for (i = 0; ("services/" i "/address") in value; i++)
        if (value["services/" i "/type"] == "dns") print "dns", clean(value["services/" i "/address"])
}
